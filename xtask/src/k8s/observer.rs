//! What has the API server said of pods, from the beginning on? Pods that are gone are remembered.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::kubectl::Kubectl;

/// All that was said of one pod, oldest first.
type Versions = Vec<Value>;

#[derive(Default)]
struct Said {
    pods: BTreeMap<String, Versions>,
    /// Answers as they came: `(request, line)`.
    answers: Vec<(String, Value)>,
    /// Objects that control pods, by uid.
    owners: HashMap<String, Value>,
}

pub(super) struct Observer {
    said: Arc<Mutex<Said>>,
    ending: Arc<AtomicBool>,
    watching: Arc<AtomicU32>,
}

impl Observer {
    pub(super) fn start(kubectl: &Kubectl) -> Self {
        let observer =
            Self { said: Arc::default(), ending: Arc::default(), watching: Arc::default() };
        let kubectl = kubectl.clone();
        let (said, ending) = (Arc::clone(&observer.said), Arc::clone(&observer.ending));
        let watching = Arc::clone(&observer.watching);
        thread::spawn(move || {
            while !ending.load(Relaxed) {
                // A server that is away for a while is part of what is tried; the rest is asked again.
                let _ = follow(&kubectl, &said, &watching);
                thread::sleep(Duration::from_millis(500));
            }
        });
        observer
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        // What is in it is whole at any time.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All versions of pods that ever had this name.
    pub(super) fn pods_named(&self, namespace: &str, name: &str) -> Vec<Versions> {
        let said = self.said();
        let named = |versions: &&Versions| {
            let metadata = &versions[0]["metadata"];
            metadata["name"] == name && metadata["namespace"] == namespace
        };
        said.pods.values().filter(named).cloned().collect()
    }

    /// The object that controls something, asked for once.
    pub(super) fn owner(&self, kubectl: &Kubectl, object: &Value) -> Result<Option<Value>> {
        let references = object["metadata"]["ownerReferences"].as_array();
        let Some(reference) =
            references.and_then(|all| all.iter().find(|one| one["controller"] == true))
        else {
            return Ok(None);
        };
        let uid = reference["uid"].as_str().context("an owner without a uid")?;
        if let Some(known) = self.said().owners.get(uid) {
            return Ok(Some(known.clone()));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (text(&reference["kind"]), text(&reference["name"]));
        let namespace = text(&object["metadata"]["namespace"]);
        let found = kubectl.get(&["-n", &namespace, &kind, &name])?;
        if found["metadata"]["uid"] != uid {
            bail!("{kind} {name} is another by now");
        }
        self.said().owners.insert(uid.to_owned(), found.clone());
        Ok(Some(found))
    }

    /// Ends the watch.
    pub(super) fn stop(&self) {
        self.ending.store(true, Relaxed);
        let watching = self.watching.swap(0, Relaxed);
        if watching != 0 {
            // One that has ended already is what is wanted.
            let _ = Command::new("kill").arg(watching.to_string()).stderr(Stdio::null()).status();
        }
    }
}

/// One list, then a watch for as long as it lasts.
fn follow(kubectl: &Kubectl, said: &Mutex<Said>, watching: &AtomicU32) -> Result<()> {
    const PODS: &str = "/api/v1/pods";
    let take = |request: &str, answer: Value, pods: Vec<Value>| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.answers.push((request.to_owned(), answer));
        for pod in pods {
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            said.pods.entry(uid).or_default().push(pod);
        }
    };
    let list: Value = serde_json::from_str(&kubectl.output(&["get", "--raw", PODS])?)?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
    let pods = list["items"].as_array().cloned().unwrap_or_default();
    take(PODS, list, pods);
    let request = format!("{PODS}?watch=1&allowWatchBookmarks=true&resourceVersion={version}");
    let mut child = kubectl
        .command(&["get", "--raw", &request])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    watching.store(child.id(), Relaxed);
    let output = child.stdout.take().context("kubectl has no output")?;
    for line in BufReader::new(output).lines() {
        let Ok(answer) = serde_json::from_str::<Value>(&line?) else { break };
        let pod = answer["object"].clone();
        let news = matches!(answer["type"].as_str(), Some("ADDED" | "MODIFIED" | "DELETED"));
        take(&request, answer, if news { vec![pod] } else { Vec::new() });
    }
    watching.store(0, Relaxed);
    child.wait()?;
    Ok(())
}
