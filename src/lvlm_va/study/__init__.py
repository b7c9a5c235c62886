"""The user study: do people agree with the critic, and with the aligned model? (Sec. 5, user study)."""
