"""`python -m genledger`: the command, by whichever Python this is."""

from genledger.main import main

main()
