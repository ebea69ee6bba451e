"""The HTML report of the main job."""
