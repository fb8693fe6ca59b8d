"""One line for programs that call models through somebody's library: their calls, as events of the ledger.

    litellm.py      a callback for LiteLLM, in its proxy or in a program
    openai.py       `metered(OpenAI(), ledger)`

Each hands the library's own figures, and nothing of prompts and answers, through `streams.sources` to
`streams.client`. A call never fails because it could not be metered.
"""
