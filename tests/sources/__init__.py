"""Every source of events: golden pairs, traps and fuzz."""
