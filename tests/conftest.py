"""For all tests: no model hub, and examples of Hypothesis that are the same at every run."""

import os

import hypothesis

os.environ["HF_HUB_OFFLINE"] = "1"
hypothesis.settings.register_profile("tests", derandomize=True, deadline=None)
hypothesis.settings.load_profile("tests")
