//! Amazon EC2: version 2 of the instance metadata service. A token is asked for first, and shown with every
//! question ("Use the Instance Metadata Service", Amazon EC2 user guide).

use http::Method;
use opentelemetry_semantic_conventions::attribute as key;
use serde::Deserialize;

use super::{Found, metadata::Server};

/// The token is needed for a second.
const LIFETIME: (&str, &str) = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
const TOKEN: &str = "x-aws-ec2-metadata-token";

/// Of the instance identity document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    account_id: Option<String>,
    region: Option<String>,
    availability_zone: Option<String>,
    instance_id: Option<String>,
    instance_type: Option<String>,
    image_id: Option<String>,
}

pub(super) async fn ask(server: &Server, found: &mut Found) -> Result<(), String> {
    let token = server.ask(Method::PUT, "/latest/api/token", LIFETIME).await?.text;
    let ask = |path| server.ask(Method::GET, path, (TOKEN, token.trim()));
    let (document, name) = tokio::join!(
        ask("/latest/dynamic/instance-identity/document"),
        ask("/latest/meta-data/hostname"),
    );
    let document: Document = serde_json::from_str(&document?.text)
        .map_err(|error| format!("the instance identity document: {error}"))?;
    found.add(key::CLOUD_PLATFORM, Some("aws_ec2"));
    found.add(key::CLOUD_ACCOUNT_ID, document.account_id);
    found.add(key::CLOUD_REGION, document.region);
    found.add(key::CLOUD_AVAILABILITY_ZONE, document.availability_zone);
    found.add(key::HOST_ID, document.instance_id);
    found.add(key::HOST_TYPE, document.instance_type);
    found.add(key::HOST_IMAGE_ID, document.image_id);
    found.add(key::HOST_NAME, Some(name?.text));
    Ok(())
}
