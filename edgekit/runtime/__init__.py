"""What lives for months in a device: sessions, engines, delegates and the latency log."""
