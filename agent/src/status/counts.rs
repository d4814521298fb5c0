//! Counts by name, in the order in which they are declared: of losses, of drops.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

/// In JSON an object. As text ` a=1 b=2`, without those that are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<(String, u64)>);

impl Counts {
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

impl<N: Into<String>> FromIterator<(N, u64)> for Counts {
    fn from_iter<I: IntoIterator<Item = (N, u64)>>(counts: I) -> Self {
        Self(counts.into_iter().map(|(name, count)| (name.into(), count)).collect())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = self.0.iter().filter(|(_, count)| *count > 0);
        counts.try_for_each(|(name, count)| write!(f, " {name}={count}"))
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, count)| (name, count)))
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("counts by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
                let mut counts = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    counts.push(entry);
                }
                Ok(Counts(counts))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_stays_that_of_the_declaration() {
        let counts: Counts = [("b", 2), ("none", 0), ("a", 1)].into_iter().collect();
        assert_eq!((counts.to_string(), counts.sum()), (" b=2 a=1".to_owned(), 3));
        let json = serde_json::to_string(&counts).unwrap();
        assert_eq!(json, r#"{"b":2,"none":0,"a":1}"#);
        assert_eq!(serde_json::from_str::<Counts>(&json).unwrap(), counts);
        assert!(serde_json::from_str::<Counts>("[1]").is_err());
    }
}
