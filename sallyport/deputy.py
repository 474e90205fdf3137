"""What a sandbox's deputy, its sandboxd and whoever runs the sandbox have to agree on."""

from typing import Final

# Where a deputy finds its sandboxd: a socket without a path, which belongs to one network and is another's in every
# other.
DEPUTY_NAME: Final = "\0sallyport-deputy"
# Below the sandbox's home: what the deputy keeps and logs.
STATE_DIR: Final = ".sallyport"
# Where a shell of the sandbox finds the variables of its set-up, and the variable that says so.
SHELL_FILE: Final = f"{STATE_DIR}/setup/environment.sh"
SHELL_FILE_VARIABLE: Final = "SALLYPORT_ENVIRONMENT_FILE"
# The label of an image that brings Sallyport: the path of the Python it is installed in.
PYTHON_LABEL: Final = "sallyport.python"
