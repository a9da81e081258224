"""`make chaos`: what durability promises, while replicas, stores and connections are killed, stopped, delayed and rolled back."""
