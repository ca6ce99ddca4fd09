"""What runs when: partitions, jobs, schedules and sensors."""
