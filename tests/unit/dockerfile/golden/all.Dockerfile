# syntax=docker/dockerfile:1
# escape=`

# a comment
FROM busybox:latest AS base
RUN echo one && `
    # a comment in between

    echo two `   
    && echo three
copy --chown=1:2 a b	/c/
ENV A="x y" B=C:\path
RUN <<EOF
#!/bin/sh
echo "$HOME"
EOF
COPY <<-"ONE" <<TWO /d/
	tabs go
ONE
	tabs stay $A
TWO
RUN echo "<<NOT" 3<<FD cat
into the fd
FD
RUN ["echo", "<<NOT"]
ONBUILD RUN <<E
later
E
CMD echo `` end
