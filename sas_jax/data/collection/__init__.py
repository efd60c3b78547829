"""Behind `data.collect`: what to record, one episode, its part file, the workers."""
