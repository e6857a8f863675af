"""Who is asking, with what authority: SMART Backend Services tokens, clients and scopes."""
