"""One gateway as several processes: a parent that listens to the operator and the control plane, and those that serve.

They are called serving processes; `worker` is another part. A serving process is an ordinary gateway (gateway/app.py)
in a Place: its listeners are inherited, its admin surface is a socket with a path, what it knows comes from the parent.
Read parent.py first; then fleet.py and serving_process.py, which are the parent's side too; place.py, followed.py and
reports.py are the side of the process that serves. With one process none of this runs.
"""
