//! Azure: the instance metadata service, which answers in one piece whoever says `Metadata: true`.

use http::Method;
use opentelemetry_semantic_conventions::attribute as key;
use serde::Deserialize;

use super::{Found, metadata::Server};

const PATH: &str = "/metadata/instance/compute?api-version=2021-12-13&format=json";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compute {
    location: Option<String>,
    name: Option<String>,
    subscription_id: Option<String>,
    vm_id: Option<String>,
    vm_size: Option<String>,
    zone: Option<String>,
    storage_profile: Option<StorageProfile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StorageProfile {
    image_reference: Option<ImageReference>,
}

/// Images of the marketplace have no id, but four names.
#[derive(Deserialize)]
struct ImageReference {
    id: Option<String>,
    publisher: Option<String>,
    offer: Option<String>,
    sku: Option<String>,
    version: Option<String>,
}

impl ImageReference {
    /// The id, or the names as Azure's own tools write them: `publisher:offer:sku:version`.
    fn name(self) -> Option<String> {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        said(self.id).or_else(|| {
            let names = [self.publisher, self.offer, self.sku, self.version];
            let names: Option<Vec<String>> = names.into_iter().map(said).collect();
            Some(names?.join(":"))
        })
    }
}

pub(super) async fn ask(server: &Server, found: &mut Found) -> Result<(), String> {
    let answer = server.ask(Method::GET, PATH, ("metadata", "true")).await?;
    let compute: Compute = serde_json::from_str(&answer.text)
        .map_err(|error| format!("what it says of the machine: {error}"))?;
    found.add(key::CLOUD_PLATFORM, Some("azure.vm"));
    found.add(key::CLOUD_ACCOUNT_ID, compute.subscription_id);
    found.add(key::CLOUD_REGION, compute.location);
    found.add(key::CLOUD_AVAILABILITY_ZONE, compute.zone);
    found.add(key::HOST_ID, compute.vm_id);
    found.add(key::HOST_TYPE, compute.vm_size);
    found.add(key::HOST_NAME, compute.name);
    let image = compute.storage_profile.and_then(|profile| profile.image_reference);
    found.add(key::HOST_IMAGE_ID, image.and_then(ImageReference::name));
    Ok(())
}
