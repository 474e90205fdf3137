"""`/page`: the operator page, for people. Rendered here, without script; forms are read and answered by redirects.

The page is a client of the API in this process: what it shows and does, it asks of `/v1` as the one who is logged in
(../own_api.py). So it can do nothing that his key could not do, and knows nothing of the store. Open site.py first.
"""
