"""AWS: services in regions, by requests that the gateway signs."""
