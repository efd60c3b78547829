"""SAS itself: imagine, score by energy, choose, and act with what was chosen."""
