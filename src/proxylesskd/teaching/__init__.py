"""Between the teacher and the methods: what it says about each batch, looked up or asked for."""
