//! Which values make sense, checked on the merged configuration so that the rule is the same for file,
//! environment and flags. Each message says what was found and what was expected.

use std::{fmt, time::Duration};

use super::value::Size;

fn within<T: PartialOrd + fmt::Display>(value: &T, least: &T, most: &T) -> garde::Result {
    if value < least || value > most {
        return Err(garde::Error::new(format!("found {value}, expected {least} to {most}")));
    }
    Ok(())
}

pub(super) fn size(least: Size, most: Size) -> impl Fn(&Size, &()) -> garde::Result {
    move |value, ()| within(value, &least, &most)
}

pub(super) fn count(least: u32, most: u32) -> impl Fn(&u32, &()) -> garde::Result {
    move |value, ()| within(value, &least, &most)
}

pub(super) fn duration(
    least: Duration,
    most: Duration,
) -> impl Fn(&Duration, &()) -> garde::Result {
    move |value, ()| {
        if *value < least || *value > most {
            let message = format!("found {value:?}, expected {least:?} to {most:?}");
            return Err(garde::Error::new(message));
        }
        Ok(())
    }
}

pub(super) fn ratio(value: &f64, (): &()) -> garde::Result {
    within(value, &0.0, &1.0)
}

/// The kernel takes ring buffers of a power of two, at least a page.
pub(super) fn ring(value: &Size, (): &()) -> garde::Result {
    within(value, &Size::kib(64), &Size::mib(1024))?;
    if !value.0.is_power_of_two() {
        let (below, above) =
            (Size((value.0.next_power_of_two()) / 2), Size(value.0.next_power_of_two()));
        let message = format!("found {value}, expected a power of two such as {below} or {above}");
        return Err(garde::Error::new(message));
    }
    Ok(())
}

/// A route template: `/users/{id}/orders/*`.
pub(super) fn route(value: &str, (): &()) -> garde::Result {
    let error =
        |expected: &str| Err(garde::Error::new(format!("found `{value}`, expected {expected}")));
    if !value.starts_with('/') {
        return error("a route that begins with /");
    }
    if value.contains(['?', '#']) {
        return error("a route without query or fragment");
    }
    let balanced = value.split('/').all(|segment| {
        let (open, close) = (segment.matches('{').count(), segment.matches('}').count());
        open == close && (open == 0 || segment.find('{') < segment.find('}'))
    });
    if balanced { Ok(()) } else { error("every { closed by a } in the same segment") }
}
