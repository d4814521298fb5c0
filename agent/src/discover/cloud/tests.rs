//! Against servers that speak each provider's protocol as strictly as the real ones, and against broken ones.

mod fakes;

use std::fs;

use tokio::task::JoinSet;

use self::fakes::{Fake, Mood};
use super::*;

/// For servers that answer: more than a busy machine takes.
const LONG: Duration = Duration::from_secs(20);
/// For servers that do not.
const SHORT: Duration = Duration::from_millis(300);

fn settings(ask: Ask, fake: &Fake, limit: Duration) -> Settings {
    Settings { ask, endpoint: Some(fake.endpoint.as_str().into()), limit }
}

/// What is found at a fake that answers.
async fn found(ask: Ask, fake: &Fake) -> Vec<(Box<str>, Value)> {
    detect(&settings(ask, fake, LONG)).await
}

/// What is found at a fake that does not, within the limit.
async fn found_soon(ask: Ask, fake: &Fake) -> Vec<(Box<str>, Value)> {
    let started = Instant::now();
    let found = detect(&settings(ask, fake, SHORT)).await;
    // A busy machine adds to it.
    assert!(started.elapsed() < SHORT + LONG, "{:?}", started.elapsed());
    found
}

fn attributes(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Value)> {
    pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

const PROVIDERS: [Provider; 3] = [Provider::Aws, Provider::Gcp, Provider::Azure];

#[tokio::test]
async fn ec2_is_asked_with_a_token() {
    let fake = Fake::start(Provider::Aws, Mood::Well).await;
    let expected = [
        ("cloud.provider", "aws"),
        ("cloud.platform", "aws_ec2"),
        ("cloud.account.id", "123456789012"),
        ("cloud.region", "us-west-2"),
        ("cloud.availability_zone", "us-west-2b"),
        ("host.id", "i-1234567890abcdef0"),
        ("host.type", "t2.micro"),
        ("host.image.id", "ami-5fb8c835"),
        ("host.name", "ip-10-158-112-84.us-west-2.compute.internal"),
    ];
    assert_eq!(found(Ask::Only(Provider::Aws), &fake).await, attributes(&expected));
    assert_eq!(fake.asked()[0], "PUT /latest/api/token");
}

#[tokio::test]
async fn compute_engine_is_asked_in_its_flavor() {
    let fake = Fake::start(Provider::Gcp, Mood::Well).await;
    let expected = [
        ("cloud.provider", "gcp"),
        ("cloud.platform", "gcp_compute_engine"),
        ("cloud.account.id", "shop-prod"),
        ("cloud.region", "europe-west1"),
        ("cloud.availability_zone", "europe-west1-b"),
        ("host.id", "4520031799277581759"),
        ("host.type", "n2-standard-4"),
        ("host.name", "web-1"),
        ("host.image.id", "projects/debian-cloud/global/images/debian-12-bookworm-v20260101"),
    ];
    assert_eq!(found(Ask::Only(Provider::Gcp), &fake).await, attributes(&expected));
    let secrets = |path: &String| path.contains("service-accounts") || path.contains("recursive");
    assert!(!fake.asked().iter().any(secrets), "{:?}", fake.asked());
}

#[tokio::test]
async fn nodes_of_kubernetes_engine_are_told_by_their_cluster() {
    let fake = Fake::start(Provider::Gcp, Mood::Cluster).await;
    let found = found(Ask::Only(Provider::Gcp), &fake).await;
    for pair in [("cloud.platform", "gcp_kubernetes_engine"), ("k8s.cluster.name", "prod")] {
        assert!(found.contains(&attributes(&[pair])[0]), "{found:?}");
    }
}

#[tokio::test]
async fn azure_is_asked_for_metadata() {
    let fake = Fake::start(Provider::Azure, Mood::Well).await;
    let expected = [
        ("cloud.provider", "azure"),
        ("cloud.platform", "azure.vm"),
        ("cloud.account.id", "8d10da13-8125-4ba9-a717-bf7490507b3d"),
        ("cloud.region", "westeurope"),
        ("cloud.availability_zone", "3"),
        ("host.id", "02aab8a4-74ef-476e-8182-f6d2ba4166a6"),
        ("host.type", "Standard_A3"),
        ("host.name", "examplevmname"),
        ("host.image.id", "Canonical:0001-com-ubuntu-server-jammy:22_04-lts:22.04.202601010"),
    ];
    assert_eq!(found(Ask::Only(Provider::Azure), &fake).await, attributes(&expected));
}

#[tokio::test]
async fn of_a_server_that_does_not_answer_only_the_provider_is_known_and_soon() {
    let mut all = JoinSet::new();
    for (provider, mood) in
        PROVIDERS.into_iter().flat_map(|all| Mood::BROKEN.map(|mood| (all, mood)))
    {
        all.spawn(async move {
            let only = attributes(&[("cloud.provider", provider.as_str())]);
            let fake = Fake::start(provider, mood).await;
            assert_eq!(found_soon(Ask::Only(provider), &fake).await, only, "{provider:?} {mood:?}");
        });
    }
    all.join_all().await;
}

#[tokio::test]
async fn nobody_listening_is_known_at_once() {
    for provider in PROVIDERS {
        let fake = Fake::start(provider, Mood::Well).await;
        let settings = settings(Ask::Only(provider), &fake, LONG);
        fake.stop().await;
        let started = Instant::now();
        let found = detect(&settings).await;
        assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
        assert_eq!(found, attributes(&[("cloud.provider", provider.as_str())]));
    }
}

#[tokio::test]
async fn what_came_before_a_later_answer_stays_away_is_kept() {
    let mut both = JoinSet::new();
    for (provider, left) in [(Provider::Aws, "host.name"), (Provider::Gcp, "host.type")] {
        both.spawn(async move {
            let fake = Fake::start(provider, Mood::HangsOnDetails).await;
            let limit = Duration::from_secs(4);
            let found = detect(&settings(Ask::Only(provider), &fake, limit)).await;
            let has = |key: &str| found.iter().any(|(found, _)| &**found == key);
            assert!(has("host.id") && !has(left), "{found:?}");
        });
    }
    both.join_all().await;
}

#[tokio::test]
async fn slow_answers_are_waited_for_up_to_the_limit() {
    let fake = Fake::start(Provider::Aws, Mood::Slow(SHORT)).await;
    assert!(found(Ask::Only(Provider::Aws), &fake).await.len() > 5);
    let fake = Fake::start(Provider::Aws, Mood::Slow(LONG)).await;
    assert_eq!(found_soon(Ask::Only(Provider::Aws), &fake).await.len(), 1);
}

#[tokio::test]
async fn a_host_that_nobody_rents_out_asks_nobody() {
    let sys = tempfile::tempdir().unwrap();
    let fake = Fake::start(Provider::Aws, Mood::Well).await;
    let settings = |ask| settings(ask, &fake, LONG);
    assert_eq!(detect_at(&settings(Ask::Auto), sys.path()).await, []);
    let dmi = sys.path().join("class/dmi/id");
    fs::create_dir_all(&dmi).unwrap();
    fs::write(dmi.join("sys_vendor"), "Amazon EC2\n").unwrap();
    assert_eq!(detect_at(&settings(Ask::Nobody), sys.path()).await, []);
    assert_eq!(fake.asked(), <[String; 0]>::default());
    assert!(detect_at(&settings(Ask::Auto), sys.path()).await.len() > 5);
}
