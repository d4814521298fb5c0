//! What wrong files say.

use super::*;

/// A file and all that is wrong with it, `line:column: …`.
pub(super) const WRONG: &[(&str, &[&str])] = &[
    ("a: [1, 2", &["1:4: not YAML: "]),
    ("just text", &["1:1: found `just text`, expected a mapping of settings"]),
    ("limit:\n  ring: 8MiB\n", &["1:1: limit: unknown setting, did you mean `limits`?"]),
    (
        "limits:\n  rings: 8MiB\n  databases: 3\n",
        &[
            "2:3: limits.rings: unknown setting, did you mean `ring`?",
            "3:3: limits.databases: unknown setting, expected one of queue, connections, heads, tail_sampling, exchange_idle, ring",
        ],
    ),
    (
        "limits:\n  ring: 8MB\n",
        &["2:9: limits.ring: found `8MB`, expected a size such as 4096, 64KiB or 16MiB"],
    ),
    (
        "limits:\n  ring: 3MiB\n",
        &["2:9: limits.ring: found 3MiB, expected a power of two such as 2MiB or 4MiB"],
    ),
    ("limits:\n  connections: 1\n", &["2:16: limits.connections: found 1, expected 16 to 4194304"]),
    ("limits: 5\n", &["1:9: limits: found `5`, expected a mapping of settings"]),
    (
        "limits:\n  queue: [1]\n",
        &["2:10: limits.queue: found a list of 1, expected a size such as 4096, 64KiB or 16MiB"],
    ),
    ("limits:\n  queue:\n", &["limits.queue: found nothing, expected a size such as"]),
    (
        "selectors:\n  - name: shop\n",
        &[
            "2:5: selectors[0]: found no criterion, expected at least one of pid, exe, cmd, port, cgroup, container_id, kubernetes, all",
        ],
    ),
    (
        "selectors:\n  - exe: /srv/[a\n    port: 80-http\n",
        &[
            "2:10: selectors[0].exe: found `/srv/[a`, expected a glob such as /srv/*/shop: ",
            "3:11: selectors[0].port: found `80-http`, expected ports and ranges such as 80,8000-8099 (1 to 65535)",
        ],
    ),
    (
        "selectors:\n  - pid: [12, minus]\n    exclude:\n      - exes: x\n",
        &[
            "2:15: selectors[0].pid[1]: found `minus`, expected a whole number up to 4294967295",
            "4:9: selectors[0].exclude[0].exes: unknown setting, did you mean `exe`?",
        ],
    ),
    (
        "filter:\n  exclude: [{status: 2x}, {signal: logs, path: /}, {}, {signal: all}]\n",
        &[
            "2:22: filter.exclude[0].status: found `2x`, expected a status code, a range or a class such as 404, 200-299 or 5xx",
            "2:36: filter.exclude[1].signal: found `logs`, expected one of all, traces, metrics",
            "2:52: filter.exclude[2]: found no criterion, expected at least one of path, route, method, status, attributes",
            "2:56: filter.exclude[3]: found no criterion, expected at least one of",
        ],
    ),
    (
        "filter:\n  include: {path: '/[a', status: 299-200}\n",
        &[
            "2:19: filter.include.path: found `/[a`, expected a glob such as /api/*, or !/api/* for all others: ",
            "2:34: filter.include.status: found `299-200`, expected a status code, a range or a class such as 404, 200-299 or 5xx, the lower one first",
        ],
    ),
    (
        "exclude: [{}]\n",
        &["1:11: exclude[0]: found no criterion, expected at least one of pid, exe, cmd, port"],
    ),
    (
        "selectors:\n  - all: maybe\n",
        &["2:10: selectors[0].all: found `maybe`, expected true or false"],
    ),
    (
        "routes:\n  patterns: [users, '/a/{id']\n  mode: pattern\n",
        &[
            "2:14: routes.patterns[0]: found `users`, expected a route that begins with /",
            "2:21: routes.patterns[1]: found `/a/{id`, expected fixed text or {name} where `{id` is",
            "3:9: routes.mode: found `pattern`, expected one of heuristic, patterns, off (did you mean patterns?)",
        ],
    ),
    (
        "metrics:\n  interval: 10\n  histogram: exp\n",
        &[
            "2:13: metrics.interval: found `10`, expected a time such as 500ms, 10s or 5m",
            "3:14: metrics.histogram: found `exp`, expected one of explicit, exponential",
        ],
    ),
    (
        "metrics:\n  interval: 1ms\n",
        &["2:13: metrics.interval: found 1ms, expected 100ms to 86400s"],
    ),
    (
        "traces:\n  sampler: traceidratio\n  ratio: 1.5\n",
        &["3:10: traces.ratio: found 1.5, expected 0 to 1"],
    ),
    (
        "capture:\n  max_head: 2MiB\n",
        &["2:13: capture.max_head: found 2MiB, expected 1KiB to 1MiB"],
    ),
    (
        "output:\n  otlp:\n    endpoint: localhost:4317\n    protocol: http\n    headers: token\n",
        &[
            "3:15: output.otlp.endpoint: found `localhost:4317`, expected its scheme too: http://localhost:4317, or https://localhost:4317 for TLS",
            "4:15: output.otlp.protocol: found `http`, expected one of grpc, http/protobuf, http/json",
            "5:14: output.otlp.headers: found a text, expected a mapping of names to texts",
        ],
    ),
    (
        "output:\n  otlp:\n    headers:\n      bad name: s3cret\n      x: \"s3cret\\n\"\n",
        &[
            "4:7: output.otlp.headers: found `bad name`, expected the name of a header field such as authorization",
            "5:10: output.otlp.headers.x: found what cannot be sent, expected a value without control characters",
        ],
    ),
    (
        "output:\n  otlp:\n    endpoint: https://h\n    client_key: k.pem\n",
        &["4:17: output.otlp.client_key: found without client_certificate, expected both"],
    ),
    (
        "output:\n  prometheus: 9464\n  print: yes please\n",
        &[
            "2:15: output.prometheus: found `9464`, expected an address and a port such as 127.0.0.1:9464",
            "3:10: output.print: found `yes please`, expected one of spans, none",
        ],
    ),
    (
        "output: {otlp_file: '-', print: spans}\n",
        &[
            "1:21: output.otlp_file: found `-` while spans are printed there, expected a file or print: none",
        ],
    ),
    (
        "log_level: remora=loud\n",
        &["1:12: log_level: found `remora=loud`, expected a level such as debug"],
    ),
    (
        "kernel:\n  door: fexitt\n",
        &[
            "2:9: kernel.door: found `fexitt`, expected one of auto, socket, fexit, tp-btf, raw-tp, tracepoint (did you mean fexit?)",
        ],
    ),
    ("selectors:\n", &["1:10: selectors: found nothing, expected a list"]),
    (
        "selectors: [nginx]\n",
        &["1:13: selectors[0]: found `nginx`, expected a mapping of settings"],
    ),
    (
        "exclude:\n  - exe: ''\n",
        &["2:10: exclude[0].exe: found ``, expected a glob such as /srv/*/shop: it is empty"],
    ),
    (
        "selectors:\n  - port: 0\n",
        &[
            "2:11: selectors[0].port: found `0`, expected ports and ranges such as 80,8000-8099 (1 to 65535)",
        ],
    ),
    (
        "selectors:\n  - port: 90-80\n",
        &[
            "2:11: selectors[0].port: found `90-80`, expected ports and ranges such as 80,8000-8099 (1 to 65535)",
        ],
    ),
    (
        "selectors: [{exe: a, cgroups: /x}]\n",
        &["1:22: selectors[0].cgroups: unknown setting, did you mean `cgroup`?"],
    ),
    (
        "selectors: [{name: [a], exe: b}]\n",
        &["1:20: selectors[0].name: found a list of 1, expected a text"],
    ),
    (
        "selectors: [{}]\n",
        &[
            "1:13: selectors[0]: found no criterion, expected at least one of pid, exe, cmd, port, cgroup, container_id, kubernetes, all",
        ],
    ),
    (
        "routes: {patterns: ['/a/*/b']}\n",
        &["1:21: routes.patterns[0]: found `/a/*/b`, expected * as the last segment only"],
    ),
    (
        "routes: {max: many}\n",
        &["1:15: routes.max: found `many`, expected a whole number up to 4294967295"],
    ),
    ("routes: {max: 0}\n", &["1:15: routes.max: found 0, expected 1 to 100000"]),
    (
        "redaction: {query_key: a}\n",
        &["1:13: redaction.query_key: unknown setting, did you mean `query_keys`?"],
    ),
    (
        "redaction: {query_keys: {a: b}}\n",
        &["1:25: redaction.query_keys: found a mapping, expected a text"],
    ),
    (
        "output: {otlp: {timeout: 10}}\n",
        &["1:26: output.otlp.timeout: found `10`, expected a time such as 500ms, 10s or 5m"],
    ),
    (
        "output: {otlp: {compression: gz}}\n",
        &[
            "1:30: output.otlp.compression: found `gz`, expected one of none, gzip, zstd (did you mean gzip?)",
        ],
    ),
    (
        "output: {otlp: {trace: {endpoint: x}}}\n",
        &["1:17: output.otlp.trace: unknown setting, did you mean `traces`?"],
    ),
    (
        "output: {otlp: {traces: {endpoint: 'ftp://h'}}}\n",
        &[
            "1:36: output.otlp.traces.endpoint: found `ftp://h`, expected a URL such as http://localhost:4317",
        ],
    ),
    (
        "output: {otlp: {headers: {api-key: [a]}}}\n",
        &["1:36: output.otlp.headers.api-key: found a list of 1, expected a text"],
    ),
    (
        "output: {batch: {delay: 0ms}}\n",
        &["1:25: output.batch.delay: found 0s, expected 1ms to 600s"],
    ),
    (
        "output: {batch: {max_spans: 200000}}\n",
        &["1:29: output.batch.max_spans: found 200000, expected 1 to 100000"],
    ),
    ("output: {otlp_file: ''}\n", &["1:21: output.otlp_file: found ``, expected a path"]),
    (
        "output:\n  prometheus: 127.0.0.1\n",
        &[
            "2:15: output.prometheus: found `127.0.0.1`, expected an address and a port such as 127.0.0.1:9464",
        ],
    ),
    (
        "limits: {queue: 1GB}\n",
        &["1:17: limits.queue: found `1GB`, expected a size such as 4096, 64KiB or 16MiB"],
    ),
    ("limits: {queue: 8GiB}\n", &["1:17: limits.queue: found 8GiB, expected 64KiB to 4GiB"]),
    (
        "limits: {connections: -1}\n",
        &["1:23: limits.connections: found `-1`, expected a whole number up to 4294967295"],
    ),
    (
        "metrics: {temporality: cumulativ}\n",
        &[
            "1:24: metrics.temporality: found `cumulativ`, expected one of cumulative, delta, lowmemory (did you mean cumulative?)",
        ],
    ),
    (
        "metrics: {exporters: [otlp, zipkin]}\n",
        &["1:29: metrics.exporters[1]: found `zipkin`, expected one of otlp, prometheus, none"],
    ),
    ("metrics: {idle: 0.5s}\n", &["1:17: metrics.idle: found 500ms, expected 1s to 604800s"]),
    (
        "traces: {sampler: alwayson}\n",
        &[
            "1:19: traces.sampler: found `alwayson`, expected one of always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio (did you mean always_on?)",
        ],
    ),
    ("traces: {ratio: half}\n", &["1:17: traces.ratio: found `half`, expected a number"]),
    ("resource: [a=b]\n", &["1:11: resource: found a list of 1, expected a mapping of settings"]),
    ("resource: {team: [a]}\n", &["1:18: resource.team: found a list of 1, expected a text"]),
    (
        "log_level: [debug]\n",
        &[
            "1:12: log_level: found a list of 1, expected a level such as debug, or filters such as remora::export=trace",
        ],
    ),
    ("kernel: {run_time: 1}\n", &["1:20: kernel.run_time: found `1`, expected true or false"]),
    (
        "selectors: [{exe: a, traces: {ratio: 2}, headers: {requests: a}}]\n",
        &[
            "1:38: selectors[0].traces.ratio: found 2, expected 0 to 1",
            "1:52: selectors[0].headers.requests: unknown setting, did you mean `request`?",
        ],
    ),
    (
        "headers: {request: ['x tenant']}\n",
        &[
            "1:21: headers.request[0]: found `x tenant`, expected the name of a header field such as x-tenant",
        ],
    ),
    (
        "listen: 9465\n",
        &["1:9: listen: found `9465`, expected an address and a port such as 127.0.0.1:9464"],
    ),
    ("service_name: ''\n", &["1:15: service_name: found ``, expected a text"]),
    (
        "limits: {ring: 4MiB}\nlimits: {queue: 1MiB}\n",
        &["2:1: not YAML: duplicate mapping key: limits"],
    ),
    (
        "limits:\n\tring: 4MiB\n",
        &["2:2: not YAML: tabs disallowed within this context (block indentation)"],
    ),
    ("- selectors\n", &["1:1: found a list of 1, expected a mapping of settings"]),
    ("LIMITS: {ring: 4MiB}\n", &["1:1: LIMITS: unknown setting, did you mean `limits`?"]),
    (
        "limits: {ring: 3MiB, queue: 1}\nkernel: {door: x}\nrout: 1\n",
        &[
            "1:16: limits.ring: found 3MiB, expected a power of two such as 2MiB or 4MiB",
            "1:29: limits.queue: found 1, expected 64KiB to 4GiB",
            "2:16: kernel.door: found `x`, expected one of auto, socket, fexit, tp-btf, raw-tp, tracepoint",
            "3:1: rout: unknown setting, did you mean `routes`?",
        ],
    ),
    ("output: {otlp: *main}\n", &["1:16: not YAML: alias references unknown anchor"]),
    ("limits: {ring: \"4MiB}\n", &["1:16: not YAML: unclosed quote"]),
];

#[test]
fn wrong_files_name_every_mistake_with_its_place() {
    assert!(WRONG.len() >= 40);
    for (text, expected) in WRONG {
        let ConfigError(problems) = load(text).expect_err(text);
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            let rest = found.strip_prefix("remora.yaml:").unwrap_or(found);
            let rest = if expected.starts_with(|c: char| c.is_ascii_digit()) {
                rest
            } else {
                rest.splitn(3, ':').nth(2).unwrap_or_default().trim_start()
            };
            assert!(rest.starts_with(expected), "{text}\nfound    {rest}\nexpected {expected}");
        }
    }
}
