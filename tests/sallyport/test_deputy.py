"""What is agreed on holds together."""

from sallyport.deputy import DEPUTY_NAME, SHELL_FILE, STATE_DIR


def test_the_name_has_no_path_and_the_file_is_the_deputy_s() -> None:
    assert DEPUTY_NAME.startswith("\0")
    assert len(DEPUTY_NAME) < 108  # unix(7)
    assert SHELL_FILE.startswith(f"{STATE_DIR}/setup/")
