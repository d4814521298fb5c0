//! The parts of an image reference: `registry:5000/shop/web:1.4.2@sha256:…`.

/// Parts of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Registry and path.
    pub name: &'a str,
    pub tag: Option<&'a str>,
    /// `sha256:…`.
    pub digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    #[must_use]
    pub fn parse(reference: &'a str) -> Self {
        let (rest, digest) = match reference.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest).filter(|digest| !digest.is_empty())),
            None => (reference, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let path_at = rest.rfind('/').map_or(0, |at| at + 1);
        match rest[path_at..].split_once(':') {
            Some((path, tag)) => Self {
                name: &rest[..path_at + path.len()],
                tag: Some(tag).filter(|tag| !tag.is_empty()),
                digest,
            },
            None => Self { name: rest, tag: None, digest },
        }
    }

    /// `service.version` where nobody said it: `TAG@DIGEST`, or what there is of them.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        match (self.tag, self.digest) {
            (Some(tag), Some(digest)) => Some(format!("{tag}@{digest}")),
            (Some(one), None) | (None, Some(one)) => Some(one.to_owned()),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_references_apart() {
        let rows = [
            ("nginx", "nginx", None, None),
            ("nginx:1.27", "nginx", Some("1.27"), None),
            ("localhost:5000/shop/web", "localhost:5000/shop/web", None, None),
            ("localhost:5000/shop/web:v1", "localhost:5000/shop/web", Some("v1"), None),
            ("web@sha256:ab", "web", None, Some("sha256:ab")),
            ("r.example:1/web:v1@sha256:ab", "r.example:1/web", Some("v1"), Some("sha256:ab")),
            ("", "", None, None),
        ];
        for (reference, name, tag, digest) in rows {
            assert_eq!(Image::parse(reference), Image { name, tag, digest }, "{reference}");
        }
    }

    #[test]
    fn a_version_is_tag_and_digest() {
        let version = |reference| Image::parse(reference).version();
        assert_eq!(version("web:v1@sha256:ab").as_deref(), Some("v1@sha256:ab"));
        assert_eq!(version("web@sha256:ab").as_deref(), Some("sha256:ab"));
        assert_eq!(version("web:v1").as_deref(), Some("v1"));
        assert_eq!(version("web"), None);
    }
}
