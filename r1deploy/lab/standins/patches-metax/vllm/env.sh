# Of the r1deploy lab's second vendor patch (a stand-in): the build's environment, as the vendor's own env.sh.
export MACA_PATH=${1:-/opt/maca}
export VLLM_INSTALL_PUNICA_KERNELS=1
echo "MACA PATH: ${MACA_PATH} Compile Code"
