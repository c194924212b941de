#!/bin/sh
# Takes out of an image's packages what only compilers and the packages' own tests use, and Arrow's network protocol.
set -eu
cd /opt/embedmill/lib/python3*/site-packages
rm -rf torch/include torch/share torch/test pyarrow/include pyarrow/src pyarrow/tests
rm -f pyarrow/libarrow_flight.* pyarrow/libarrow_python_flight.* pyarrow/_flight.* \
    pyarrow/libarrow_substrait.* pyarrow/_substrait.*
[ ! -d torch/bin ] || find torch/bin -type f ! -name torch_shm_manager -delete
