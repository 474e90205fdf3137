"""The push emitter: subscribers hear of what an instance is served as soon as it changes (contracts section 7).

`feed_changes` is the outbox, which whatever changes the feed writes in its own transaction; this room reads it, once
for each subscriber, with a cursor. `steps` decides what a subscriber is told next, `emitter` tells it, `subscribers`
says who they are. It must not know why something changed. Open steps.py first.
"""
