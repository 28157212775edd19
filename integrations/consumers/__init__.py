"""Scripts that run inside the trainers' environments, one for each consumer; they import nothing of ours."""
