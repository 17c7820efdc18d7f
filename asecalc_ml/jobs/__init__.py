"""Jobs: work that is carried out in processes of this machine or of a cluster."""

#: States of a job in the end.
DONE, PAUSED, BUSY, FAILED, LOST = "done", "paused", "busy", "failed", "lost"
