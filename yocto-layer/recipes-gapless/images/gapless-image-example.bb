SUMMARY = "The smallest system of a camera, with gapless-agent"
DESCRIPTION = "What boots, and the agent beside it: to try the layer, and to copy from into a product's own image."
SECTION = "images"
LICENSE = "MIT"
CVE_PRODUCT = ""

inherit core-image

IMAGE_INSTALL = "packagegroup-core-boot gapless-agent ${CORE_IMAGE_EXTRA_INSTALL}"
IMAGE_LINGUAS = ""
