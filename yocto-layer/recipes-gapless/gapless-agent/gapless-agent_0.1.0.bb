SUMMARY = "Tells a server what a camera's card holds, and serves ranges of it"
DESCRIPTION = "The part of Gapless that runs on the camera. It keeps an index of the recordings on a card, tells the \
               server what is held, and serves the byte ranges that the central archive misses. It opens recordings \
               for reading only."
SECTION = "multimedia"
CVE_PRODUCT = "gapless-agent"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://LICENSE-MIT;md5=01d39eae0a553e26e51cbd0a6efa0e70 \
    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
"

require ${BPN}-crates.inc

# As it is checked out around this layer. A product pins both in its own configuration.
GAPLESS_REPOSITORY ?= "git://${THISDIR}/../../..;protocol=file;nobranch=1;usehead=1"
GAPLESS_REVISION ?= "${AUTOREV}"

SRC_URI += "\
    ${GAPLESS_REPOSITORY};destsuffix=${BP} \
    file://device/Cargo.lock \
    file://run-ptest \
"
SRCREV = "${GAPLESS_REVISION}"

S = "${UNPACKDIR}/${BP}"

inherit cargo cargo-update-recipe-crates ptest systemd update-rc.d useradd

# The device's three crates alone, with a lock file of their own: a build need not fetch what only servers or tests use.
CARGO_SRC_DIR = "agent"
CARGO_LOCK_PATH = "${S}/Cargo.lock"
CARGO_LOCK_SRC_DIR = "${UNPACKDIR}/device"

PACKAGECONFIG ??= "support tls"
PACKAGECONFIG[support] = ",--no-default-features"
PACKAGECONFIG[tls] = "--features tls"

# Small before fast, as cameras' flash is. Unwinding stays, since that is how the system's std is built.
export CARGO_PROFILE_RELEASE_OPT_LEVEL = "z"
export CARGO_PROFILE_RELEASE_LTO = "fat"
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS = "1"

SYSTEMD_SERVICE:${PN} = "gapless-agent.service"

INITSCRIPT_NAME = "gapless-agent"
INITSCRIPT_PARAMS = "defaults 95 5"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --user-group --no-create-home --home-dir ${localstatedir}/lib/gapless --shell ${base_sbindir}/nologin gapless"

do_configure:prepend() {
    sed -i 's/^members = .*/members = ["agent", "protocol", "sdcard-indexer"]/' ${S}/Cargo.toml
    for member in agent protocol sdcard-indexer; do
        sed -i '/^\[dev-dependencies\]$/,/^\[/{/^\[dev-dependencies\]$/d;/^\[/!d}' ${S}/$member/Cargo.toml
    done
    install -m 644 ${UNPACKDIR}/device/Cargo.lock ${S}/Cargo.lock
}

do_install:append() {
    install -D -m 644 ${S}/cross/files/gapless-agent.service ${D}${systemd_system_unitdir}/gapless-agent.service
    install -D -m 755 ${S}/cross/files/gapless-agent.init ${D}${INIT_D_DIR}/gapless-agent
    install -D -m 644 ${S}/agent/agent.example.toml ${D}${datadir}/gapless-agent/agent.example.toml
    install -D -m 644 ${S}/cross/files/README.md ${D}${docdir}/gapless-agent/README.md
    install -d ${D}${sysconfdir}/gapless
}

do_install_ptest() {
    install -D -m 644 ${S}/tests/assets/seconds.mp4 \
        ${D}${PTEST_PATH}/card/recordings/2026-01-01_00-00-00-000000.mp4
}
