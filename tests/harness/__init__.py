"""What acceptance tests stand on: a PostgreSQL, the proxy as a real process, an operator's hands, and the sums that
must hold."""
