"""The aggregator: business rules over the other services, and answers that degrade gracefully."""
