//! Google Compute Engine and Kubernetes Engine: the metadata server, which answers whoever says
//! `Metadata-Flavor: Google`, and says it itself. One value a question: asked for everything, it would also
//! tell what nobody needs here.

use http::Method;
use opentelemetry_semantic_conventions::attribute as key;

use super::{Found, metadata::Server};

const FLAVOR: (&str, &str) = ("metadata-flavor", "Google");

pub(super) async fn ask(server: &Server, found: &mut Found) -> Result<(), String> {
    let (project, id, zone, kind, name, image, cluster, location) = tokio::join!(
        value(server, "project/project-id"),
        value(server, "instance/id"),
        value(server, "instance/zone"),
        value(server, "instance/machine-type"),
        value(server, "instance/name"),
        value(server, "instance/image"),
        value(server, "instance/attributes/cluster-name"),
        value(server, "instance/attributes/cluster-location"),
    );
    // Of a node's metadata Kubernetes Engine shows its pods a part; every machine has a number.
    let id = id?;
    let cluster = cluster.ok();
    let platform = if cluster.is_some() { "gcp_kubernetes_engine" } else { "gcp_compute_engine" };
    found.add(key::CLOUD_PLATFORM, Some(platform));
    found.add(key::CLOUD_ACCOUNT_ID, project.ok());
    // `projects/NUMBER/zones/europe-west1-b`, and so with the type of the machine.
    let zone = zone.ok();
    let zone = zone.as_deref().map(last);
    found.add(key::CLOUD_REGION, zone.and_then(region).or(location.ok().as_deref().map(last)));
    found.add(key::CLOUD_AVAILABILITY_ZONE, zone);
    found.add(key::HOST_ID, Some(id));
    found.add(key::HOST_TYPE, kind.ok().as_deref().map(last));
    found.add(key::HOST_NAME, name.ok());
    found.add(key::HOST_IMAGE_ID, image.ok());
    found.add(key::K8S_CLUSTER_NAME, cluster);
    Ok(())
}

async fn value(server: &Server, name: &str) -> Result<String, String> {
    let path = format!("/computeMetadata/v1/{name}");
    let answer = server.ask(Method::GET, &path, FLAVOR).await?;
    match answer.headers.get(FLAVOR.0) {
        Some(flavor) if flavor == FLAVOR.1 => Ok(answer.text),
        _ => Err(format!("{path}: no `Metadata-Flavor: Google` in the answer")),
    }
}

fn last(path: &str) -> &str {
    path.trim().rsplit('/').next().unwrap_or(path)
}

/// `europe-west1` of `europe-west1-b`.
fn region(zone: &str) -> Option<&str> {
    zone.rsplit_once('-').map(|(region, _)| region)
}
