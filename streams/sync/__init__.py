"""The sync: generations read back from the provider, until there is nothing left."""
