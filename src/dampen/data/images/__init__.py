"""Images: from files and folders to pixels."""
