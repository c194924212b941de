"""The embedding side: takes chunks from the queue, turns texts into vectors, commits them; knows no producer."""
