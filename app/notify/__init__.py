"""What operators are told without asking.

templates   a webhook's body and signature, as each service wants them
channels    the ways out: a webhook, mail
notices     what has happened goes to the outbox, and from there out
"""
