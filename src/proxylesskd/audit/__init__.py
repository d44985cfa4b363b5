"""Room 4, its guard: does this classifier belong to these images and this teacher?"""
