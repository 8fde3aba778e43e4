/* config_table.h - every setting: one row each.
 * The flag (--queue-max-bytes), the variable (WEIR_QUEUE_MAX_BYTES), the key in weir.conf
 * (queue.max_bytes), --help, weir.conf.example, README's table and the man page come from here.
 *
 * X(type, field, key, default, least, most, help)
 * TEXT: a string, least and most are its length in bytes. COUNT: a whole number. SIZE: bytes,
 * written 64KiB, 4MiB, 1GiB. TIME: milliseconds, written 50ms, 10s, 5m, 1h. CHOICE: one of the
 * words in the default column, separated by |; the first is the default. */
#define KIB 1024LL
#define MIB (1024LL * KIB)
#define GIB (1024LL * MIB)

/* clang-format off */
#define CONFIG_TABLE(X) \
    X(TEXT, listen, "listen", "127.0.0.1:3000", 1, 255, "address of the HTTP API: host:port, [v6]:port, :port for all addresses, or unix:/path") \
    X(TEXT, data, "data", "./weir-data", 1, 1024, "folder of the local store") \
    X(TEXT, queue, "queue", "local", 1, 1024, "where accepted events wait: local or amqp://user:password@host/vhost") \
    X(TEXT, dedup, "dedup", "local", 1, 1024, "where processed ids are remembered: local, redis://host or none") \
    X(TEXT, sink, "sink", "local", 1, 1024, "where events end up: local, postgresql://…, log (standard output) or log:/path/to/file") \
    X(COUNT, api_threads, "api.threads", "1", 1, 64, "threads that serve HTTP") \
    X(COUNT, worker_threads, "worker.threads", "1", 1, 64, "threads that process events") \
    X(COUNT, worker_batch, "worker.batch", "4096", 1, 10000, "events a worker takes at once, at most") \
    X(SIZE, event_max_bytes, "event.max_bytes", "256KiB", 1 * KIB, 16 * MIB, "largest event") \
    X(SIZE, http_max_body, "http.max_body", "4MiB", 1 * KIB, 64 * MIB, "largest request body; larger ones get 413") \
    X(COUNT, http_max_batch, "http.max_batch", "10000", 1, 1000000, "events in one request, at most; more get 413") \
    X(COUNT, http_max_connections, "http.max_connections", "10000", 1, 1000000, "open connections, at most; more are closed at once") \
    X(SIZE, http_max_inflight, "http.max_inflight", "16MiB", 64 * KIB, 16 * GIB, "request bodies held in memory, at most; beyond it 503") \
    X(TIME, http_header_timeout, "http.header_timeout", "10s", 100, 3600000, "time for a request's line and header fields to arrive") \
    X(TIME, http_idle_timeout, "http.idle_timeout", "1m", 100, 86400000, "time a connection may wait between requests") \
    X(TIME, http_write_timeout, "http.write_timeout", "10s", 100, 3600000, "time without progress while a client does not read its answer") \
    X(SIZE, http_body_min_rate, "http.body_min_rate", "1KiB", 1, 1 * GIB, "least bytes a second at which a body must arrive, after 10 s") \
    X(SIZE, queue_max_bytes, "queue.max_bytes", "1GiB", 64 * KIB, 1024 * GIB, "events waiting on disk, at most; beyond it 503") \
    X(SIZE, queue_mailbox_bytes, "queue.mailbox_bytes", "8MiB", 64 * KIB, 1 * GIB, "events waiting for the next commit, at most; beyond it 503") \
    X(SIZE, queue_memory_bytes, "queue.memory_bytes", "4MiB", 64 * KIB, 1 * GIB, "waiting events also kept in memory, at most; the rest is read from disk") \
    X(SIZE, disk_min_free, "disk.min_free", "64MiB", 0, 1024 * GIB, "free disk space below which events are refused with 503") \
    X(TIME, drain_timeout, "drain.timeout", "30s", 100, 3600000, "time after SIGTERM to answer what was received and finish the batches; what is queued then is processed after the next start") \
    X(CHOICE, amqp_queue_type, "amqp.queue_type", "quorum|classic", 0, 0, "type of events.ingest; classic is weaker, and /readyz says so") \
    X(CHOICE, amqp_format, "amqp.format", "weir|nest", 0, 0, "form of published messages; nest is the older service's, one event each") \
    X(COUNT, amqp_envelope, "amqp.envelope", "256", 1, 1000, "events that may travel in one message; 1 for foreign consumers") \
    X(COUNT, amqp_publishers, "amqp.publishers", "1", 1, 16, "connections that publish") \
    X(COUNT, amqp_prefetch, "amqp.prefetch", "100", 1, 2000, "messages a worker has in hand, at most") \
    X(TIME, amqp_confirm_timeout, "amqp.confirm_timeout", "10s", 100, 600000, "time for RabbitMQ to confirm a message; then the connection is made anew") \
    X(CHOICE, spool, "spool", "on|off", 0, 0, "keep events in the local store while RabbitMQ is away; off: 503") \
    X(TIME, spool_after, "spool.after", "2s", 10, 600000, "time a confirm may take before new events are spooled") \
    X(TIME, dedup_ttl, "dedup.ttl", "24h", 1000, 31536000000, "time Redis remembers an id") \
    X(TIME, dedup_timeout, "dedup.timeout", "20ms", 1, 10000, "time Redis has to answer; then the sink decides alone") \
    X(TIME, sink_timeout, "sink.timeout", "30s", 100, 3600000, "time the sink has to store a batch") \
    X(TIME, retention, "retention", "0ms", 0, 315360000000, "age at which stored events are dropped from PostgreSQL, by whole days; 0ms: never") \
    X(CHOICE, log_level, "log.level", "info|debug|warn|error", 0, 0, "least level that is logged") \
    X(CHOICE, log_format, "log.format", "logfmt|json", 0, 0, "form of a log line")
/* clang-format on */
