"""One file a revision, each with its way up and its way down."""
