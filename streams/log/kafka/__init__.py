"""The log on Apache Kafka: what `streams.log.interface` promises, kept by a cluster."""
