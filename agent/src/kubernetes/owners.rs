//! Who controls the controller of a pod: the Deployment of a ReplicaSet, the CronJob of a Job. Each
//! controller of a pod here is asked for once, by its metadata alone; watching all ReplicaSets of
//! a cluster would cost every node what only a few need. Where it may not be asked for, or is not
//! there any more, names are told from how controllers name what they make.

use std::time::Duration;

use hashbrown::HashMap;
use k8s_openapi::api::{apps::v1::ReplicaSet, batch::v1::Job};
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::{
    pod::{Owner, Pod},
    slim::controller,
};

/// Between two questions for the same controller, while the API server does not answer.
const RETRY: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// What is known of one controller's controller.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Asked,
    /// The last word, or what its name says until that comes.
    Told(Option<Owner>),
}

/// By uid of the controller that was asked for.
pub struct Owners {
    client: Client,
    known: HashMap<Box<str>, Known>,
    answers: mpsc::UnboundedSender<Answer>,
}

/// What became of a question.
#[derive(Debug)]
pub struct Answer {
    uid: Box<str>,
    owner: Option<Owner>,
}

impl Owners {
    /// Answers come to the other end of `answers`, to be handed to [`Self::learn`].
    #[must_use]
    pub fn new(client: Client, answers: mpsc::UnboundedSender<Answer>) -> Self {
        Self { client, known: HashMap::new(), answers }
    }

    /// Fills in the pod's upper owner, or asks for it and marks it as pending.
    pub fn resolve(&mut self, pod: &mut Pod) {
        let Some(direct) = &pod.owner.direct else { return };
        if !matches!(&*direct.kind, "ReplicaSet" | "Job") {
            return;
        }
        match self.known.get(&direct.uid) {
            Some(Known::Told(owner)) => pod.owner.upper.clone_from(owner),
            Some(Known::Asked) => pod.owner.pending = true,
            None => {
                pod.owner.pending = true;
                self.known.insert(direct.uid.clone(), Known::Asked);
                let question = Question {
                    client: self.client.clone(),
                    namespace: pod.namespace.to_string(),
                    direct: direct.clone(),
                    by_name: told_by_name(direct, pod.label("pod-template-hash")),
                };
                tokio::spawn(question.ask(self.answers.clone()));
            }
        }
    }

    /// Takes an answer; the pods of this controller have to be resolved anew.
    pub fn learn(&mut self, answer: Answer) -> Box<str> {
        let Answer { uid, owner } = answer;
        self.known.insert(uid.clone(), Known::Told(owner));
        uid
    }

    /// Forgets controllers that no pod has any more.
    pub fn keep(&mut self, is_used: impl Fn(&str) -> bool) {
        self.known.retain(|uid, _| is_used(uid));
    }
}

struct Question {
    client: Client,
    namespace: String,
    direct: Owner,
    by_name: Option<Owner>,
}

impl Question {
    async fn ask(self, answers: mpsc::UnboundedSender<Answer>) {
        let tell = |owner: Option<Owner>| {
            let uid = self.direct.uid.clone();
            answers.send(Answer { uid, owner }).is_ok()
        };
        for (tries, pause) in RETRY.into_iter().chain(std::iter::repeat(RETRY[4])).enumerate() {
            let answer = self.upper().await;
            match answer {
                Ok(found) => {
                    tell(found.or(self.by_name));
                    return;
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                    tracing::warn!(
                        "the API server does not let the agent get the metadata of a {} ({}): what it \
                         belongs to is told from its name",
                        self.direct.kind,
                        status.message
                    );
                    tell(self.by_name);
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, owner = %self.direct.name, "owner not resolved yet");
                    // Spans wait for nobody for long; the true answer replaces this one.
                    if tries == 0 && !tell(self.by_name.clone()) {
                        return;
                    }
                }
            }
            if answers.is_closed() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// `None`: it has no controller, or is gone itself.
    async fn upper(&self) -> Result<Option<Owner>, kube::Error> {
        let (client, name) = (self.client.clone(), &self.direct.name);
        let metadata = if &*self.direct.kind == "ReplicaSet" {
            let api: Api<ReplicaSet> = Api::namespaced(client, &self.namespace);
            api.get_metadata_opt(name).await?.map(|found| found.metadata)
        } else {
            let api: Api<Job> = Api::namespaced(client, &self.namespace);
            api.get_metadata_opt(name).await?.map(|found| found.metadata)
        };
        // Another object may have the name by now.
        let same = metadata.filter(|metadata| metadata.uid.as_deref() == Some(&*self.direct.uid));
        Ok(same.as_ref().and_then(controller))
    }
}

/// A Deployment calls its ReplicaSets `NAME-HASH` and labels their pods with the hash; a CronJob calls its
/// Jobs `NAME-MINUTES`, the minutes since 1970 when they were due.
pub(super) fn told_by_name(direct: &Owner, template_hash: Option<&str>) -> Option<Owner> {
    let (name, suffix) = direct.name.rsplit_once('-')?;
    let kind = match &*direct.kind {
        "ReplicaSet" if template_hash == Some(suffix) => "Deployment",
        "Job" if suffix.len() == 8 && suffix.bytes().all(|byte| byte.is_ascii_digit()) => "CronJob",
        _ => return None,
    };
    (!name.is_empty()).then(|| Owner { kind: kind.into(), name: name.into(), uid: "".into() })
}

#[cfg(test)]
mod tests {
    use super::{super::pod::tests::owner, *};

    #[test]
    fn names_tell_owners_where_they_were_made_by_controllers() {
        let told = |kind, name, hash| {
            told_by_name(&owner(kind, name), hash).map(|owner| (owner.kind, owner.name))
        };
        let made = |kind: &str, name: &str| Some((kind.into(), name.into()));
        let hash = Some("5d86cd684");
        assert_eq!(told("ReplicaSet", "my-web-5d86cd684", hash), made("Deployment", "my-web"));
        assert_eq!(told("ReplicaSet", "my-web-5d86cd684", None), None);
        assert_eq!(told("ReplicaSet", "by-hand", hash), None);
        assert_eq!(told("Job", "mail-29384756", None), made("CronJob", "mail"));
        assert_eq!(told("Job", "mail-42", None), None);
        assert_eq!(told("Job", "-29384756", None), None);
    }
}
