//! Which provider does the firmware name? Read from sysfs, which containers see as their host does.

use std::{fs, path::Path};

use super::Provider;

/// The chassis of every virtual machine of Azure; Hyper-V elsewhere has others.
const AZURE_CHASSIS: &str = "7783-7084-3265-9085-8269-3286-77";

/// `sys` is where sysfs is.
pub(super) fn provider_of(sys: &Path) -> Option<Provider> {
    let line = |path: &str| {
        let text = fs::read_to_string(sys.join(path)).unwrap_or_default();
        text.trim().to_owned()
    };
    let dmi = |name: &str| line(&format!("class/dmi/id/{name}"));
    if dmi("sys_vendor") == "Amazon EC2"
        // Machines on Xen: `4.11.amazon`, and a UUID that begins so.
        || dmi("bios_version").ends_with(".amazon")
        || line("hypervisor/uuid").to_ascii_lowercase().starts_with("ec2")
    {
        return Some(Provider::Aws);
    }
    if matches!(&*dmi("product_name"), "Google Compute Engine" | "Google") {
        return Some(Provider::Gcp);
    }
    (dmi("chassis_asset_tag") == AZURE_CHASSIS).then_some(Provider::Azure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_provider_of_known_machines_and_of_no_other() {
        let rows: [(&[(&str, &str)], _); 10] = [
            (&[("class/dmi/id/sys_vendor", "Amazon EC2\n")], Some(Provider::Aws)),
            (
                &[
                    ("class/dmi/id/sys_vendor", "Xen\n"),
                    ("class/dmi/id/bios_version", "4.11.amazon\n"),
                ],
                Some(Provider::Aws),
            ),
            (&[("hypervisor/uuid", "ec2c1a3f-0000-0000-0000-000000000000\n")], Some(Provider::Aws)),
            (&[("class/dmi/id/product_name", "Google Compute Engine\n")], Some(Provider::Gcp)),
            (
                &[
                    ("class/dmi/id/sys_vendor", "Microsoft Corporation\n"),
                    ("class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n"),
                ],
                Some(Provider::Azure),
            ),
            // Hyper-V on a machine of one's own, an OpenStack, a QEMU, a Xen, a laptop, nothing.
            (
                &[
                    ("class/dmi/id/sys_vendor", "Microsoft Corporation\n"),
                    ("class/dmi/id/product_name", "Virtual Machine\n"),
                    ("class/dmi/id/chassis_asset_tag", "5249-6213-4472-2374-1133-8771-03\n"),
                ],
                None,
            ),
            (
                &[
                    ("class/dmi/id/sys_vendor", "OpenStack Foundation\n"),
                    ("class/dmi/id/product_name", "OpenStack Nova\n"),
                ],
                None,
            ),
            (
                &[
                    ("class/dmi/id/sys_vendor", "QEMU\n"),
                    ("hypervisor/uuid", "1ec2c1a3-0000-0000-0000-000000000000\n"),
                ],
                None,
            ),
            (
                &[("class/dmi/id/sys_vendor", "Google\n"), ("class/dmi/id/product_name", "Eve\n")],
                None,
            ),
            (&[], None),
        ];
        for (files, expected) in rows {
            let sys = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = sys.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            assert_eq!(provider_of(sys.path()), expected, "{files:?}");
        }
    }
}
