"""What Carepost is measured against."""
