"""Trainings of several processes, compared with those of one. Each file is a program for a launcher."""
