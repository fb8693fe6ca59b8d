import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Publish events to Kafka: one JSON object a line on standard input.
 *
 * <pre>java -cp 'libs/*' Produce.java localhost:9092 generations < events.ndjson > again.ndjson</pre>
 *
 * Lines that the cluster did not acknowledge come out again.
 */
public class Produce {
    public static void main(String[] args) throws Exception {
        Map<String, Object> config = Map.of(
                "bootstrap.servers", args[0],
                "acks", "all",
                "enable.idempotence", true,
                "delivery.timeout.ms", 120_000);
        var json = new ObjectMapper();
        var out = new PrintStream(System.out, true, UTF_8);
        var failed = new AtomicInteger();
        try (var lines = new BufferedReader(new InputStreamReader(System.in, UTF_8.newDecoder()));
                var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            for (String line; (line = lines.readLine()) != null; ) {
                var event = line;
                var id = json.readTree(event).required("id").textValue();
                var record = new ProducerRecord<>(args[1], id, event);
                record.headers().add("schema", "1".getBytes(UTF_8));
                producer.send(record, (place, error) -> {
                    if (error != null) {
                        failed.incrementAndGet();
                        System.err.println(error);
                        out.println(event);
                    }
                });
            }
        } // closing waits for what is on its way, no longer than delivery.timeout.ms
        System.exit(failed.get() == 0 ? 0 : 1);
    }
}
