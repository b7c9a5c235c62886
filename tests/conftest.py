"""What holds for all tests."""

from hypothesis import settings

# A test is judged by what it finds, not by how busy the machine is.
settings.register_profile("lvlm-va", deadline=None)
settings.load_profile("lvlm-va")
