"""Queues on a real RabbitMQ."""
