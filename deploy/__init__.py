"""What runs and watches a server: configuration for Prometheus, Grafana and the like, and the code that some of it is made by."""
