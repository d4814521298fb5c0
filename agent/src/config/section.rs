//! Sections in few words: the macros by which keys are declared where their fields are.

/// A struct whose fields are keys: documentation, default and what else is to be said of each in one
/// place. What stands behind a default are calls of [`Draft`]'s methods.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                pub $field:ident : $type:ty = $default:expr $(, $option:ident ( $($arg:expr),* ) )* ;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::config::describe::Section for $name {
            const ABOUT: &'static [&'static str] = &[$($about),*];

            fn keys() -> Vec<$crate::config::describe::Key<Self>> {
                $crate::config::section::keys!(Self: $(
                    $(#[doc = $doc])+ $field $(, $option($($arg),*) )* ;
                )*)
            }
        }

        $crate::config::section::section_value!($name);
    };
}
pub(super) use section;

/// Keys for fields of a struct that is declared elsewhere.
macro_rules! keys {
    ($section:ty : $( $(#[doc = $doc:literal])+ $field:ident $(, $option:ident ( $($arg:expr),* ) )* ; )*) => {{
        let mut default = <$section>::default();
        vec![$(
            $crate::config::describe::Draft::<$section, _>::new(
                stringify!($field),
                &[$($doc),+],
                |section| &mut section.$field,
                &mut default.$field,
            )
            $(.$option($($arg),*))*
            .done(),
        )*]
    }};
}
pub(super) use keys;

/// A section as a value, and a list of them.
macro_rules! section_value {
    ($name:ty) => {
        impl $crate::config::describe::Samples for $name {}
        impl $crate::config::describe::Samples for Vec<$name> {}
        impl $crate::config::describe::Samples for Option<Vec<$name>> {}

        /// A list that may also not be said, which is not the same as an empty one.
        impl $crate::config::describe::Value for Option<Vec<$name>> {
            fn read(
                &mut self,
                reader: &mut $crate::config::reader::Reader<'_>,
                node: &$crate::config::node::Node,
                setting: &str,
            ) -> bool {
                self.insert(Vec::new()).read(reader, node, setting)
            }

            fn read_text(&mut self, text: &str) -> Result<(), String> {
                self.insert(Vec::new()).read_text(text)
            }

            fn shown(&self, secrets: bool) -> serde_json::Value {
                self.as_ref().map_or(serde_json::Value::Null, |items| items.shown(secrets))
            }

            fn shape(&self) -> $crate::config::shape::Shape {
                Vec::<$name>::new().shape()
            }
        }

        impl $crate::config::describe::Value for $name {
            fn read(
                &mut self,
                reader: &mut $crate::config::reader::Reader<'_>,
                node: &$crate::config::node::Node,
                setting: &str,
            ) -> bool {
                $crate::config::describe::read_section(self, reader, node, setting)
            }

            fn read_text(&mut self, text: &str) -> Result<(), String> {
                Err(format!("found `{text}`, expected a mapping of settings"))
            }

            fn shown(&self, secrets: bool) -> serde_json::Value {
                $crate::config::describe::shown(self, secrets)
            }

            fn shape(&self) -> $crate::config::shape::Shape {
                $crate::config::describe::shape::<Self>()
            }

            fn leaves(
                &mut self,
                path: &str,
                visit: &mut dyn FnMut(&str, &mut dyn $crate::config::describe::Leaf),
            ) -> bool {
                $crate::config::describe::leaves(self, path, visit);
                true
            }
        }

        impl $crate::config::describe::Value for Vec<$name> {
            fn read(
                &mut self,
                reader: &mut $crate::config::reader::Reader<'_>,
                node: &$crate::config::node::Node,
                setting: &str,
            ) -> bool {
                let read = $crate::config::describe::read_item;
                let items = reader.items(node, setting, read);
                items.map(|items| *self = items).is_some()
            }

            fn read_text(&mut self, text: &str) -> Result<(), String> {
                Err(format!("found `{text}`, expected a list of mappings"))
            }

            fn shown(&self, secrets: bool) -> serde_json::Value {
                self.iter().map(|item| $crate::config::describe::shown(item, secrets)).collect()
            }

            fn shape(&self) -> $crate::config::shape::Shape {
                let item = $crate::config::describe::shape::<$name>();
                $crate::config::shape::Shape::List(Box::new(item))
            }
        }
    };
}
pub(super) use section_value;
