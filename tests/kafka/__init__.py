"""Kafka as it is: tests run against a real Apache Kafka, never against a mock.

How tests find it. The fixture `kafka` takes the first of these that is there: the cluster named by the
environment's KAFKA_BOOTSTRAP (host:port, PLAINTEXT, auto-creation of topics off); a docker engine, with the
image apache/kafka; Java 17 and Maven, which fetches the jars once into build/kafka. With none of them the
tests are skipped and say so. Tests that kill, pause or secure a broker start their own by `own_broker`,
which always takes Java and Maven. On Debian: apt-get install default-jdk-headless maven openssl.

    broker.py        one real broker: start, stop, kill -9, pause, restart on the same ports and files
    certificates.py  a certificate authority and what it signs, for TLS
    proxy.py         a TCP proxy between clients and broker, where the network fails on demand
    fixtures.py      the fixtures `kafka`, `own_broker` and `topic_prefix`
    pom.xml          which Kafka
    installation.py  topics and roles on a cluster, as real processes
    records.py       what is on a cluster, by librdkafka's consumer
    mixed.py         traffic through the door and by direct producers at once
    kills.py         kills with -9, at named points and at random, and how soon somebody takes over
    soak.py          ten of the one, 200 of the other, and the report in docs/soak-kafka.md
"""
