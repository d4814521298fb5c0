//! Real services: nginx asks one in Go, which asks one in Rust, each behind a Service.

use serde_json::{Value, json};

use super::images::{GO, NGINX, RUST};

/// The only namespace that is captured.
pub(super) const NAMESPACE: &str = "shop";
/// One with the same services that is not.
pub(super) const OTHER: &str = "private";

/// Addresses of the Services; each node of a chain knows the next by its own.
pub(super) const WEB: &str = "10.96.1.1:80";
pub(super) const ORDERS: &str = "10.96.1.2:80";
pub(super) const STOCK: &str = "10.96.1.3:80";
pub(super) const UNSEEN: &str = "10.96.1.4:80";

/// Where every service listens in its pod.
pub(super) const PORT: u16 = 8080;

/// Deployments of the chain, from its front to its end.
pub(super) const CHAIN: [&str; 3] = ["web", "orders", "stock"];

pub(super) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// A container that answers `POD/NAME`.
pub(super) fn container(name: &str, image: &str, arguments: &[&str]) -> Value {
    json!({
        "name": name, "image": image, "imagePullPolicy": "Never", "args": arguments,
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "CONTAINER", "value": name},
        ],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    })
}

/// What a workload makes its pods of.
pub(super) fn template(app: &str, spec: Value) -> Value {
    let mut template = json!({
        "metadata": {"labels": {"app": app, "app.kubernetes.io/version": "2026.11"}}, "spec": spec});
    // Nobody waits for programs that do not care for SIGTERM.
    template["spec"]["terminationGracePeriodSeconds"] = 1.into();
    template
}

/// A workload whose pods are told by the label `app`.
pub(super) fn workload(kind: &str, namespace: &str, app: &str, spec: Value) -> Value {
    let mut all = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": app, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": app}}, "template": template(app, spec)},
    });
    if kind == "Deployment" {
        all["spec"]["replicas"] = 2.into();
        all["spec"]["strategy"] = json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
    }
    all
}

pub(super) fn service(namespace: &str, app: &str, address: &str) -> Value {
    let (address, _) = address.split_once(':').unwrap_or((address, ""));
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": app, "namespace": namespace},
        "spec": {"clusterIP": address, "selector": {"app": app},
            "ports": [{"port": 80, "targetPort": PORT}]},
    })
}

/// nginx names its pod in a header field of each response.
fn nginx_configuration() -> String {
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path /tmp/{name};\n"))
        .collect();
    format!(
        "daemon off;\nuser root root;\nworker_processes 2;\npid /tmp/nginx.pid;\nerror_log /dev/stderr;\n\
         events {{}}\nhttp {{\n  access_log /dev/stdout;\n{folders}  server {{\n    listen {PORT};\n    \
         location / {{\n      proxy_pass http://{ORDERS};\n      proxy_connect_timeout 1s;\n      \
         proxy_read_timeout 3s;\n      add_header X-Pod \"$hostname/nginx\" always;\n    \
         }}\n  }}\n}}\n"
    )
}

/// All of the chain in one namespace.
pub(super) fn chain() -> Vec<Value> {
    let listen = format!("0.0.0.0:{PORT}");
    let mut nginx = container("nginx", NGINX, &[]);
    nginx["volumeMounts"] = json!([{"name": "nginx", "mountPath": "/etc/nginx"}]);
    let web = json!({"containers": [nginx], "volumes": [{"name": "nginx", "configMap": {"name": "nginx"}}]});
    let orders = json!({"containers": [container("orders", GO, &[&listen, STOCK])]});
    let stock = json!({"containers": [container("stock", RUST, &[&listen])]});
    let mut all = vec![
        namespace(NAMESPACE),
        namespace(OTHER),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nginx", "namespace": NAMESPACE},
            "data": {"nginx.conf": nginx_configuration()},
        }),
    ];
    for ((app, spec), address) in
        CHAIN.into_iter().zip([web, orders, stock.clone()]).zip([WEB, ORDERS, STOCK])
    {
        all.push(workload("Deployment", NAMESPACE, app, spec));
        all.push(service(NAMESPACE, app, address));
    }
    all.push(workload("Deployment", OTHER, "unseen", stock));
    all.push(service(OTHER, "unseen", UNSEEN));
    all
}
